//! Streaming forecasters, their aggregation and calibrated intervals; pure, without IO or clock.
