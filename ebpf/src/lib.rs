//! Kernel truth for the loop: what this kernel offers and the TCP_INFO baseline.
