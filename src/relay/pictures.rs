//! Pictures that a request names by their address, put in before it is translated, where a setting says so. Upstream
//! fetches none.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};

use super::{Call, Error, Relay};
use crate::protocol::failure::Failure;
use crate::protocol::json;
use crate::translate::rules::images::{self, External};

/// So many pictures of one request are fetched, so many at a time, of so many bytes in all.
const MOST: usize = 20;
const AT_ONCE: usize = 4;
const MOST_BYTES: usize = 20 << 20;

impl Relay {
    /// Puts pictures in the place of their addresses.
    pub(super) async fn fetch_pictures(&self, call: &mut Call) -> Result<(), Error> {
        let Some(pictures) = &self.pictures else { return Ok(()) };
        let client = call.client.protocol;
        let wanted = images::external(client, &mut call.body);
        let Some(first) = wanted.first() else { return Ok(()) };
        let mut urls: Vec<&str> = wanted.iter().map(|external| external.url.as_str()).collect();
        urls.sort_unstable();
        urls.dedup();
        if urls.len() > MOST {
            let sentence = format!(
                "the request names {} images by their addresses; {MOST} are fetched",
                urls.len()
            );
            return Err(refused(first, &sentence).into());
        }
        let fetches = urls.into_iter().map(async |url| (url, pictures.fetch(url).await));
        let mut fetches = stream::iter(fetches).buffer_unordered(AT_ONCE);
        let (mut found, mut bytes) = (HashMap::new(), 0);
        while let Some((url, fetched)) = fetches.next().await {
            let at = wanted.iter().find(|external| external.url == url).unwrap_or(first);
            let picture = fetched.map_err(|why| refused(at, &format!("the image could not be fetched: {why}")))?;
            bytes += picture.bytes.len();
            if bytes > MOST_BYTES {
                let sentence = format!("the images are larger than {} MiB in all", MOST_BYTES >> 20);
                return Err(refused(at, &sentence).into());
            }
            found.insert(
                url.to_owned(),
                images::data_url(picture.media_type.as_deref(), &picture.bytes),
            );
        }
        drop(fetches);
        images::inline(client, &mut call.body, &found);
        call.text = json::text(&call.body, call.text.len() + bytes / 3 * 4).into();
        Ok(())
    }
}

fn refused(at: &External, sentence: &str) -> Failure {
    images::refused(at, sentence).with_code("unsupported_image")
}
