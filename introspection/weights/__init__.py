"""Pretrained weights: safetensors, GGUF, PEFT and `config.json`, read and written."""
