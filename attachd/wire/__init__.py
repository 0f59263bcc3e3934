"""What is said: frames, messages, and the conversation's rules. No clock, no socket, no await."""
