"""Image pairs: public layouts to manifests, manifests to crops; no torch."""
