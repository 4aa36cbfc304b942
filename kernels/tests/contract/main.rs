//! Tests of the numerics contract: what `NUMERICS.md` promises, held against both CPU forms of
//! every op.

mod attention;
mod canaries;
mod capture;
mod case;
mod codec;
mod delay;
mod faults;
mod generate;
mod memory;
mod reference;
mod refusals;
mod rows;
mod sampling;
mod scalars;
mod versions;
