//! What is refused, where and with which hint.
