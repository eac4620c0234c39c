"""The engine of one machine: tasks in processes, files in a temporary folder, no Java."""
