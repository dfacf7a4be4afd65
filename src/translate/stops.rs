//! Stop sequences, watched for in the text of an answer whose upstream cannot. Knows no protocol.

/// Text on its way to the client, and the little of it that may yet turn out to begin a stop sequence.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    stops: Vec<String>,
    held: String,
}

/// What may go to the client, and the stop sequence that ended the answer there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    pub text: String,
    pub stop: Option<String>,
}

impl Stops {
    /// A watch for these sequences; `None` where there is nothing to watch for.
    pub fn new(stops: &[String]) -> Option<Self> {
        let stops: Vec<String> = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        (!stops.is_empty()).then(|| Self {
            stops,
            held: String::new(),
        })
    }

    /// Takes the next piece of text. After a stop nothing more is to be fed.
    pub fn feed(&mut self, piece: &str) -> Watched {
        self.held.push_str(piece);
        if let Some((start, stop)) = self.first_complete() {
            let stop = stop.to_owned();
            self.held.truncate(start);
            return Watched {
                text: std::mem::take(&mut self.held),
                stop: Some(stop),
            };
        }
        let kept = self.held.split_off(self.safe());
        Watched {
            text: std::mem::replace(&mut self.held, kept),
            stop: None,
        }
    }

    /// The text goes no further: gives what was held back.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The sequence that is complete first, as a model that stops by itself would see it: the same for any cut of the
    /// text. Of two that end together the longer one.
    fn first_complete(&self) -> Option<(usize, &str)> {
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, stop.as_str()))
        });
        found.min().map(|(_, start, stop)| (start, stop))
    }

    /// Up to where the held text can begin no stop sequence.
    fn safe(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let earliest = (self.held.len() + 1).saturating_sub(longest);
        let begins = |at: &usize| {
            let tail = self.held.get(*at..);
            tail.is_some_and(|tail| self.stops.iter().any(|stop| stop.starts_with(tail)))
        };
        (earliest..self.held.len()).find(begins).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let Some(mut watch) = Stops::new(&stops) else {
            return (pieces.concat(), None);
        };
        let mut text = String::new();
        for piece in pieces {
            let watched = watch.feed(piece);
            text.push_str(&watched.text);
            if watched.stop.is_some() {
                return (text, watched.stop);
            }
        }
        (text + &watch.flush(), None)
    }

    #[test]
    fn k049_a_stop_cut_in_two_is_seen_and_nothing_of_it_leaks() {
        assert_eq!(run(&["END"], &["aEN", "Db"]), ("a".into(), Some("END".into())));
    }

    #[test]
    fn what_only_looked_like_a_stop_comes_out_whole() {
        assert_eq!(run(&["END"], &["aEN", "x E", "N"]), ("aENx EN".into(), None));
        assert_eq!(run(&["", "ß!"], &["aß", "ß?"]), ("aßß?".into(), None));
        assert_eq!(run(&[""], &["a"]), ("a".into(), None));
    }

    #[test]
    fn only_what_may_begin_a_stop_waits() {
        let mut watch = Stops::new(&["\n\nHuman:".to_owned()]).unwrap();
        assert_eq!(watch.feed("hello").text, "hello");
        assert_eq!(watch.feed(" you\n").text, " you");
        assert_eq!(watch.flush(), "\n");
    }

    #[test]
    fn any_cut_finds_the_same_stop() {
        let text = "xäabcabcdabd";
        for stops in [
            vec!["abcd", "bca"],
            vec!["abd"],
            vec!["c", "abc"],
            vec!["zz"],
            vec!["ä", "xä"],
        ] {
            let whole = run(&stops, &[text]);
            for (at, _) in text.char_indices() {
                assert_eq!(run(&stops, &[&text[..at], &text[at..]]), whole, "{stops:?} cut at {at}");
            }
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(run(&stops, &letters), whole, "{stops:?}");
        }
    }
}
