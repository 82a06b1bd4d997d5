//! What is announced to a peer, and what it announced (RFC 4271 §3.2).
