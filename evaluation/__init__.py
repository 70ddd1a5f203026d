"""What a model scores: observations, tasks, log-likelihoods, metrics and importers."""
