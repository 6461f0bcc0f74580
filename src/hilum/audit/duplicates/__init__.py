"""One image under two names: exact copies, processed copies, copies of known images."""
