from conv_draw.training import interval as interval_lib


def test_an_interval_counts_all_its_steps_and_all_its_time(monkeypatch):
  now = [0.0]
  monkeypatch.setattr(interval_lib.time, 'monotonic', lambda: now[0])
  interval = interval_lib.Interval((8, 8, 1), 4)

  def step(nats, seconds):
    now[0] += seconds
    interval.add({'nats': nats})

  step(9.0, 50)  # compiles
  step(7.0, 2)
  with interval.paused():
    now[0] += 100
  step(5.0, 2)
  line = interval.close()
  assert line['nats'] == 7 and line['seconds'] == 154 and line['images_per_second'] == 2
  step(1000.0, 2)
  interval.forget()  # undone, but its time counts
  step(6.0, 2)
  step(4.0, 1)
  line = interval.close()
  assert line['nats'] == 5 and line['seconds'] == 5 and line['images_per_second'] == 4
  step(3.0, 2)
  assert interval.close()['images_per_second'] == 2
