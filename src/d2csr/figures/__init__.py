"""Tables and figures of the paper, made from models and pairs at hand."""
