"""What Rung's formats cost in silicon: a bit-true datapath, and an energy model."""
