//! Bodies that a client has compressed. Knows the ways to compress; unpacks a step at a time and never further than it
//! may, since a few hundred bytes can stand for gigabytes.

use std::io::{self, Read};

use actix_web::http::header::{self, HeaderMap};

use crate::protocol::failure::{Failure, Kind};

/// How a body travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// How much is unpacked between two looks at the limit.
const STEP: u64 = 1 << 20;
/// The largest window that clients of HTTP may ask for, as a power of two.
const ZSTD_WINDOW: u32 = 23;

impl Encoding {
    /// What the headers name.
    pub fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else {
            return Ok(Self::Plain);
        };
        let name = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(match name.as_str() {
            "" | "identity" => Self::Plain,
            "gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            _ => {
                let sentence = "the content encoding must be one of gzip, br, zstd, deflate";
                return Err(Failure::new(Kind::UnsupportedMedia, sentence));
            }
        })
    }

    /// Unpacks a body for as long as `may_grow_to` agrees.
    pub fn unpack(
        self,
        packed: &[u8],
        mut may_grow_to: impl FnMut(usize) -> Result<(), Failure>,
    ) -> Result<Vec<u8>, Failure> {
        let broken = |_: io::Error| Failure::new(Kind::BadRequest, "the request body cannot be read");
        let mut reader = self.reader(packed).map_err(broken)?;
        let mut whole = Vec::new();
        loop {
            let step = reader.by_ref().take(STEP).read_to_end(&mut whole).map_err(broken)?;
            may_grow_to(whole.len())?;
            if step == 0 {
                return Ok(whole);
            }
        }
    }

    fn reader<'a>(self, packed: &'a [u8]) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Plain => Box::new(packed),
            Self::Gzip => Box::new(flate2::read::GzDecoder::new(packed)),
            Self::Deflate => Box::new(flate2::read::ZlibDecoder::new(packed)),
            Self::Brotli => Box::new(brotli::Decompressor::new(packed, 4096)),
            Self::Zstd => {
                let mut reader = zstd::stream::read::Decoder::with_buffer(packed)?;
                reader.window_log_max(ZSTD_WINDOW)?;
                Box::new(reader)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const MANY: usize = 300 << 20;

    /// So many spaces, packed a piece at a time.
    fn packed(encoding: Encoding, spaces: usize) -> Vec<u8> {
        fn fill<W: Write>(mut writer: W, spaces: usize) -> W {
            let piece = vec![b' '; spaces.min(1 << 20)];
            (0..spaces / piece.len()).for_each(|_| writer.write_all(&piece).unwrap());
            writer
        }
        let fast = flate2::Compression::fast();
        match encoding {
            Encoding::Plain => fill(Vec::new(), spaces),
            Encoding::Gzip => fill(flate2::write::GzEncoder::new(Vec::new(), fast), spaces)
                .finish()
                .unwrap(),
            Encoding::Deflate => fill(flate2::write::ZlibEncoder::new(Vec::new(), fast), spaces)
                .finish()
                .unwrap(),
            Encoding::Brotli => fill(brotli::CompressorWriter::new(Vec::new(), 4096, 1, 22), spaces).into_inner(),
            Encoding::Zstd => fill(zstd::Encoder::new(Vec::new(), 1).unwrap(), spaces)
                .finish()
                .unwrap(),
        }
    }

    const PACKED: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd];

    #[test]
    fn what_was_packed_comes_back() {
        for encoding in PACKED {
            let packed = packed(encoding, 3 << 20);
            assert_eq!(encoding.unpack(&packed, |_| Ok(())).unwrap(), vec![b' '; 3 << 20]);
            let cut = &packed[..packed.len() / 2];
            assert_eq!(encoding.unpack(cut, |_| Ok(())).unwrap_err().kind, Kind::BadRequest);
            assert_eq!(
                encoding.unpack(b"nonsense", |_| Ok(())).unwrap_err().kind,
                Kind::BadRequest
            );
        }
    }

    #[test]
    fn nothing_is_unpacked_far_beyond_its_limit() {
        for encoding in [Encoding::Brotli, Encoding::Zstd] {
            let (packed, mut seen) = (packed(encoding, MANY), 0);
            let refused = encoding.unpack(&packed, |size| {
                seen = size;
                match size > 5 << 20 {
                    true => Err(Failure::new(Kind::TooLarge, "x")),
                    false => Ok(()),
                }
            });
            assert_eq!(refused.unwrap_err().kind, Kind::TooLarge);
            assert_eq!(seen, 6 << 20, "{encoding:?}");
        }
    }
}
