"""Training of the prior of whole heads (``spatialavatar.generator.prior``): samples, losses, the run."""
