//! The ops: names, versions, operands and scalars.

use crate::ops::{self, Definition};
use crate::{DType, Error, Scalar};

/// How an operand is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Only read.
    Read,
    /// Written without being read first.
    Write,
    /// Read, then written.
    ReadWrite,
}

impl Access {
    /// Whether earlier contents matter.
    pub fn reads(self) -> bool {
        self != Access::Write
    }

    /// Whether contents change.
    pub fn writes(self) -> bool {
        self != Access::Read
    }
}

/// An operand of an op.
#[derive(Debug)]
pub struct Param {
    /// Its name in traces and messages.
    pub name: &'static str,
    /// How it is used.
    pub access: Access,
    /// Element types that it may have.
    pub dtypes: &'static [DType],
    /// Which of its bytes are touched depends on values of other operands, so not all of it may be.
    pub partial: bool,
}

/// The type of a scalar argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// Unsigned 32-bit.
    U32,
    /// binary32.
    F32,
}

/// A scalar argument of an op.
#[derive(Debug)]
pub struct ScalarParam {
    /// Its name in traces and messages.
    pub name: &'static str,
    /// Its type.
    pub kind: ScalarKind,
    /// What a launch of an earlier version, which does not give it, means. Only trailing scalars have one.
    pub default: Option<Scalar>,
}

impl ScalarParam {
    /// A scalar that every launch gives.
    pub(crate) const fn new(name: &'static str, kind: ScalarKind) -> Self {
        ScalarParam { name, kind, default: None }
    }
}

/// The signature of an op.
#[derive(Debug)]
pub struct Schema {
    /// Its name in traces and messages.
    pub name: &'static str,
    /// Version of its contract; rises whenever a bit of any result may change, or an argument is added.
    pub version: u32,
    /// The oldest version whose launches mean the same today, scalars that they lack being at their defaults.
    pub since: u32,
    /// Operands, in order.
    pub params: &'static [Param],
    /// Scalars, in order.
    pub scalars: &'static [ScalarParam],
}

macro_rules! ops {
    ($($(#[$doc:meta])* $variant:ident => $definition:expr;)*) => {
        /// An operation of the numerics contract. `NUMERICS.md` says which bits each computes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Op { $($(#[$doc])* $variant,)* }

        impl Op {
            /// All ops.
            pub const ALL: &[Op] = &[$(Op::$variant,)*];

            pub(crate) fn definition(self) -> &'static Definition {
                match self { $(Op::$variant => $definition,)* }
            }
        }
    };
}

ops! {
    /// Rows of the text embedding table.
    EmbedText => &ops::embed::EMBED_TEXT;
    /// Sum of fused codebook embeddings, selected per row against the text embedding.
    EmbedCodes => &ops::embed::EMBED_CODES;
    /// Root-mean-square normalisation with a weight.
    RmsNorm => &ops::norm::RMS_NORM;
    /// Per-head RMSNorm, then rotary position embedding.
    QkNormRope => &ops::norm::QK_NORM_ROPE;
    /// Matrix product with 16-bit weights: GEMV for one row, small GEMM for several.
    Linear => &ops::linear::LINEAR;
    /// [`Op::Linear`] rounded to the weights' type.
    LmHead => &ops::linear::LM_HEAD;
    /// [`Op::Linear`] seen as logits of each codebook.
    AudioHead => &ops::linear::AUDIO_HEAD;
    /// Keys and values into the paged cache.
    KvWrite => &ops::kv::KV_WRITE;
    /// Attention of one position a row over the paged cache, in splits.
    AttentionDecode => &ops::attention::ATTENTION_DECODE;
    /// Splits of [`Op::AttentionDecode`] merged left to right.
    AttentionMerge => &ops::attention::ATTENTION_MERGE;
    /// Causal attention of many positions of one request over the paged cache.
    AttentionPrefill => &ops::attention::ATTENTION_PREFILL;
    /// SiLU of the gate times the up projection.
    SiluMul => &ops::elementwise::SILU_MUL;
    /// Sum into the residual stream.
    ResidualAdd => &ops::elementwise::RESIDUAL_ADD;
    /// Decode state of rows that begin a stream of codes.
    SeedState => &ops::state::SEED_STATE;
    /// Delay-pattern mask on audio logits.
    DelayMask => &ops::state::DELAY_MASK;
    /// One code a row and codebook: greedy, or drawn.
    Sample => &ops::sample::SAMPLE;
    /// Decode state after sampling.
    UpdateState => &ops::state::UPDATE_STATE;
    /// Codes to the sum of codebook vectors.
    RvqDecode => &ops::codec::RVQ_DECODE;
    /// Causal convolution.
    Conv1d => &ops::codec::CONV1D;
    /// Causal transposed convolution.
    ConvTranspose1d => &ops::codec::CONV_TRANSPOSE1D;
    /// Snake activation.
    Snake => &ops::codec::SNAKE;
    /// Hyperbolic tangent.
    Tanh => &ops::codec::TANH;
    /// 128-bit hashes of chunks of bytes.
    ChunkHash => &ops::hash::CHUNK_HASH;
}

impl Op {
    /// Its signature.
    pub fn schema(self) -> &'static Schema {
        &self.definition().schema
    }

    /// Its name in traces and messages.
    pub fn name(self) -> &'static str {
        self.schema().name
    }

    /// The op of that name that can run launches of that contract version.
    ///
    /// # Errors
    /// [`Error::UnknownOp`].
    pub fn find(name: &str, version: u32) -> Result<Op, Error> {
        let matches =
            |op: &&Op| op.name() == name && (op.schema().since..=op.schema().version).contains(&version);
        let found = Op::ALL.iter().find(matches).copied();
        found.ok_or_else(|| Error::UnknownOp { name: name.to_owned(), version })
    }
}
