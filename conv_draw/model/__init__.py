"""The paper's model, pixel distributions, objective and baselines: JAX and Flax alone."""
