//! What the program has: memory, streams, graphs, watched buffers, and the step it is in.
