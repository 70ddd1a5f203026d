"""Token streams and the tasks that belong to them."""
