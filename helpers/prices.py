"""What SageMaker Processing costs on AWS. Prices change: look them up and edit the table.

On-demand prices in US dollars an hour, entered by hand on 2026-11-22, not fetched from AWS. The
list to compare them with: https://aws.amazon.com/sagemaker/ai/pricing/ (Processing).
"""

USD_PER_HOUR: dict[str, dict[str, float]] = {
    "us-east-1": {
        "ml.t3.medium": 0.05,
        "ml.t3.large": 0.10,
        "ml.t3.xlarge": 0.20,
        "ml.m5.large": 0.115,
        "ml.m5.xlarge": 0.23,
        "ml.m5.2xlarge": 0.461,
        "ml.c5.xlarge": 0.204,
    },
}


def usd_per_hour(region: str, instance_type: str) -> float:
    """Return the price of one instance, us-east-1's where the region has none here; nan for an unknown type."""
    prices = USD_PER_HOUR.get(region, {})
    return prices.get(instance_type, USD_PER_HOUR["us-east-1"].get(instance_type, float("nan")))
