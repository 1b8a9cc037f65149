//! The Shadow Instance Manager: providers, lifecycle, pools, registry.
