"""What tests share: small federations, golden numbers, fake data sets, quick compilation."""
