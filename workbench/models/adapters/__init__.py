"""LoRA and other peft adapters: configuration, targets, attaching, saving and loading."""
