"""The declarations of tables: module ``x`` holds ``X``. An edit of one leaves the results alone that do not use it."""
