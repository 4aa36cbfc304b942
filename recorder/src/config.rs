//! The voice's configuration: the Hugging Face style keys that inference needs.

use serde::Deserialize;

use crate::error::RecordError;

/// `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Architecture name.
    pub model_type: String,
    /// The talker.
    pub text_config: TextConfig,
    /// Codes of the talker.
    pub audio_encoder_config: AudioConfig,
    /// The codec.
    pub codec_config: CodecConfig,
    /// Token ids of the special tokens used in prompts.
    pub special_tokens: SpecialTokens,
}

/// The talker: a Qwen3-style decoder.
#[derive(Debug, Clone, Deserialize)]
pub struct TextConfig {
    /// Positions of the context.
    pub max_position_embeddings: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key-value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Epsilon of RMSNorm.
    pub rms_norm_eps: f32,
    /// Base of the RoPE frequencies.
    pub rope_theta: f64,
    /// Text tokens.
    pub vocab_size: usize,
}

/// Codes of the talker.
#[derive(Debug, Clone, Deserialize)]
pub struct AudioConfig {
    /// Codebooks.
    pub num_codebooks: usize,
    /// Codes a codebook, BOC and EOC included.
    pub vocab_size: usize,
    /// The code that leads a codebook in.
    pub boc_token_id: u32,
    /// The code that ends a codebook.
    pub eoc_token_id: u32,
}

/// The codec.
#[derive(Debug, Clone, Deserialize)]
pub struct CodecConfig {
    /// Samples a second.
    pub sampling_rate: u32,
    /// Codebooks.
    pub num_codebooks: usize,
    /// Entries of a codebook.
    pub codebook_size: usize,
    /// Width of an entry.
    pub codebook_dim: usize,
    /// Channels after the first convolution.
    pub decoder_hidden_size: usize,
    /// Strides of the blocks.
    pub upsampling_ratios: Vec<usize>,
    /// Taps of the convolutions.
    pub kernel_size: usize,
    /// Dilations of a block's residual units.
    pub dilations: Vec<usize>,
}

/// Special tokens.
#[derive(Debug, Clone, Deserialize)]
pub struct SpecialTokens {
    /// First prompt token.
    #[serde(rename = "<|tts|>")]
    pub tts: u32,
    /// Before the text.
    #[serde(rename = "<|text|>")]
    pub text: u32,
    /// Last prompt token, and the input id of every decode step.
    #[serde(rename = "<|audio|>")]
    pub audio: u32,
}

/// Greatest value of any size in a configuration: far above any model, and safe to multiply.
const GREATEST: usize = 1 << 20;

impl Config {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// [`RecordError::Voice`] with what is missing or impossible.
    pub fn parse(json: &[u8]) -> Result<Config, RecordError> {
        let wrong = |what: String| RecordError::Voice { file: "config.json".to_owned(), what };
        let config: Config = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
        config.check().map_err(wrong)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let (t, a, c) = (&self.text_config, &self.audio_encoder_config, &self.codec_config);
        let sizes = [
            ("hidden_size", t.hidden_size),
            ("num_hidden_layers", t.num_hidden_layers),
            ("num_attention_heads", t.num_attention_heads),
            ("num_key_value_heads", t.num_key_value_heads),
            ("head_dim", t.head_dim),
            ("intermediate_size", t.intermediate_size),
            ("vocab_size", t.vocab_size),
            ("max_position_embeddings", t.max_position_embeddings),
            ("num_codebooks", a.num_codebooks),
            ("audio vocab_size", a.vocab_size),
            ("codebook_size", c.codebook_size),
            ("codebook_dim", c.codebook_dim),
            ("decoder_hidden_size", c.decoder_hidden_size),
            ("kernel_size", c.kernel_size),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=GREATEST).contains(size)) {
            return Err(format!("{name} is {size}, wants 1 to {GREATEST}"));
        }
        if t.num_attention_heads % t.num_key_value_heads != 0 || t.head_dim % 2 != 0 {
            return Err(format!(
                "{} heads of {} over {} key-value heads",
                t.num_attention_heads, t.head_dim, t.num_key_value_heads
            ));
        }
        if a.boc_token_id as usize >= a.vocab_size || a.eoc_token_id as usize >= a.vocab_size {
            return Err(format!(
                "BOC {} or EOC {} of {} codes",
                a.boc_token_id, a.eoc_token_id, a.vocab_size
            ));
        }
        if c.num_codebooks != a.num_codebooks {
            return Err(format!(
                "{} codebooks in the codec, {} in the talker",
                c.num_codebooks, a.num_codebooks
            ));
        }
        let halves =
            1usize.checked_shl(c.upsampling_ratios.len() as u32).filter(|h| c.decoder_hidden_size % h == 0);
        if halves.is_none() || c.upsampling_ratios.iter().chain(&c.dilations).any(|&n| n == 0 || n > 64) {
            return Err(format!("ratios {:?}, dilations {:?}", c.upsampling_ratios, c.dilations));
        }
        let ids = &self.special_tokens;
        if [ids.tts, ids.text, ids.audio].iter().any(|&id| id as usize >= t.vocab_size) {
            return Err(format!("special tokens beyond {} text tokens", t.vocab_size));
        }
        Ok(())
    }

    /// Samples of a frame.
    pub fn hop(&self) -> usize {
        self.codec_config.upsampling_ratios.iter().product()
    }
}
