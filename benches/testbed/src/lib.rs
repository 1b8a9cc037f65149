//! A real HTTP backend with tunable behaviour and an open-loop load generator.
