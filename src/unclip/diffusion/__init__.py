"""The diffusion core: schedules, denoisers, guidance, losses and samplers. Networks come from elsewhere."""
