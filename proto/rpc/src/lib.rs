//! gRPC between tiers: services, TLS, deadlines, trace context.
