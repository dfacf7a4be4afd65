//! How hard a model is asked to think: the efforts on the wire, and the thinking budgets they stand for.

/// How hard a model thinks, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    pub fn read(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::Xhigh,
            "max" => Self::Max,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort that a thinking budget in tokens stands for.
    pub fn of_budget(budget: u64) -> Self {
        match budget {
            0..=4096 => Self::Low,
            4097..=16384 => Self::Medium,
            _ => Self::High,
        }
    }

    /// The thinking budget in tokens that stands for this effort; `None` for no thinking, [`u64::MAX`] for all.
    pub fn budget(self) -> Option<u64> {
        Some(match self {
            Self::None => return None,
            Self::Minimal => 1024,
            Self::Low => 2048,
            Self::Medium => 8192,
            Self::High => 24576,
            Self::Xhigh => 32768,
            Self::Max => u64::MAX,
        })
    }

    /// The nearest effort of a list: itself, else the next lower, else the next higher. An empty list takes all.
    pub fn clamp(self, list: &[Self]) -> Self {
        let lower = list.iter().filter(|&&one| one <= self).max();
        *lower.or_else(|| list.iter().min()).unwrap_or(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_clamp_downwards_first() {
        use Effort::*;
        assert_eq!(Max.clamp(&[Medium]), Medium);
        assert_eq!(Low.clamp(&[Medium, High]), Medium);
        assert_eq!(Xhigh.clamp(&[Low, High]), High);
        assert_eq!(Minimal.clamp(&[]), Minimal);
    }

    #[test]
    fn a_budget_and_its_effort_agree() {
        for effort in [Effort::Low, Effort::Medium, Effort::High] {
            assert_eq!(Effort::of_budget(effort.budget().unwrap()), effort);
        }
    }
}
