//! The connectors as a program uses them: one binary, a module per connector.

mod delta;
