//! Configuration text to checked values, with errors that point into the file.
