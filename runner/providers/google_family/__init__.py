"""What Google AI Studio and Vertex AI share: Gemini's image models, one client, one error shape."""
