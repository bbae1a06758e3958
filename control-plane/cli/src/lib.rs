//! The command line against a server.
