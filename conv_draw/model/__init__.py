"""The paper's model, its pixels, its objective and what it is compared with: JAX and Flax alone."""
