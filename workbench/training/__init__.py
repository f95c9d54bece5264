"""The Hugging Face Trainer, called and never copied: quiet, honest about its speed, resumed to the bit."""
