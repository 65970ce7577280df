"""What is learned from: environments, their episodes, demonstrations and the replay memory."""
