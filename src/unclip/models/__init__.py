"""The models: each is a plain `nn.Module` built from its own frozen dataclass, `Model(config)`."""
