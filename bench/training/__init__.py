"""Steps of training, forward and backward, beside PyTorch and Keras on JAX: ``python -m bench --training``."""
