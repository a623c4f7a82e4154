"""The modules that a specification of a model describes: the whole model, its outline, and the weights that stay."""
