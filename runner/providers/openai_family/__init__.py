"""What OpenAI's Images API and its relatives share: options, requests, answers, the client."""
