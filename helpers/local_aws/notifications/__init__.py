"""S3 notifications: what a bucket's configuration may say, and the records that events are made of."""
