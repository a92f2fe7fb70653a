"""The tables: one module each, with its columns, their types and the key that makes a row unique."""
