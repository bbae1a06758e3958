//! Workloads with figures.
