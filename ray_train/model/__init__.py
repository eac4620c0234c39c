"""The reward model: backbones and their families, prompt format, batch, losses, LoRA, saving."""
