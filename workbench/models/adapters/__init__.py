"""LoRA and other peft adapters: configuration, target layers, attaching to a model, saving and loading."""
