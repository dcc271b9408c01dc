//! What is let in, and what goes out in which shape. Pure.
