"""Trains and evaluates convolutional DRAW, from a clone; the installed command is conv-draw."""

from conv_draw.machine import preemption, streams

if __name__ == '__main__':  # before slow imports, so that signals end them too
  streams.complete()
  preemption.leave_at_once('launch.py')

from conv_draw import launch

if __name__ == '__main__':
  launch.start()
