"""What tests and demonstrations share: toy data, factories of tiny models and samples."""
