"""Trains and evaluates convolutional DRAW, from a clone; installed, it is the command conv-draw."""

from conv_draw.machine import preemption, streams

if __name__ == '__main__':  # all that follows can be told to end
  streams.complete()
  preemption.leave_at_once('launch.py')

from conv_draw import launch

if __name__ == '__main__':
  launch.start()
