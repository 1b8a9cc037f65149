//! The data plane: listeners, HTTP engine, balancing, upstreams, health.
