"""Building blocks of the models: layers, the transformer and the UNet. They know nothing of diffusion."""
