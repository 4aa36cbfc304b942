//! One recorded graph launch again, in the process that owns the graph.
