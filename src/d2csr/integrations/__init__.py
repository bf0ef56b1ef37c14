"""Networks in the form of other libraries: spandrel, and the models of huggingface_hub."""
